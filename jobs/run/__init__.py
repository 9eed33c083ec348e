"""A whole job, from the list of images to `_SUCCESS`."""
