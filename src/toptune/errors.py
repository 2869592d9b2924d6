"""The errors that name something a user can mend; the command line turns them into one line.

A wrong parameter is a ValueError. Everything else that is raised is a defect of this package; the
command line keeps its traceback.
"""

from __future__ import annotations


class ToptuneError(Exception):
    """Base class of the errors a user can mend."""


class DataError(ToptuneError, ValueError):
    """The images, labels, splits or feature arrays cannot be used as given."""


class BackboneError(ToptuneError, ValueError):
    """The network asked for, or its weights, cannot be had on this machine."""


class ModelFileError(ToptuneError, ValueError):
    """A model or feature file is of another version, damaged, or does not fit its backbone."""


class NotKeptError(ToptuneError, ValueError, AttributeError):
    """A model does not hold what a change, or an estimate after one, needs.

    Also an AttributeError, because estimates are attributes: `hasattr` tells whether one is there.
    """


class StorageError(ToptuneError, OSError):
    """A file could not be written or read: disk full, no permission, damaged cache."""


class DataWarning(UserWarning):
    """Something about the data was set aside or is doubtful, and the run goes on."""
