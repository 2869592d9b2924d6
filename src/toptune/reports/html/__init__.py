"""What all pages share: base template and style, figures, pictures. A page needs no other file."""
