"""Where labelled images come from, and how a file becomes the pixels a network is given.

`open_images` lists a folder tree or a manifest, `from_arrays` wraps images in memory; both return
an `ImageSet`, which holds paths or images but no decoded pixels. `read_source`, `content_hash` and
`decode` then work on one image at a time and may be called from many threads. Unreadable images are
quarantined with a reason and do not end a run.
"""

from toptune.images.decode import decode, decode_within
from toptune.images.geometry import Geometry
from toptune.images.image_set import (
    ImageSet,
    Quarantined,
    folder_of,
    from_arrays,
    image_files,
    with_folder,
)
from toptune.images.inputs import (
    Images,
    images_to_compare,
    labelled_images,
    open_images,
    open_unlabelled,
    splits_of,
    unlabelled_images,
)
from toptune.images.labels import LabelKind
from toptune.images.reading import ImageSource, UnreadableImage, content_hash, read_source
from toptune.images.splits import stratified_split

__all__ = [
    "Geometry",
    "ImageSet",
    "ImageSource",
    "Images",
    "LabelKind",
    "Quarantined",
    "UnreadableImage",
    "content_hash",
    "decode",
    "decode_within",
    "folder_of",
    "from_arrays",
    "image_files",
    "images_to_compare",
    "labelled_images",
    "open_images",
    "open_unlabelled",
    "read_source",
    "splits_of",
    "stratified_split",
    "unlabelled_images",
    "with_folder",
]
