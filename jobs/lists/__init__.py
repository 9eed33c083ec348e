"""The formats that a list of images may have, each read in constant memory."""
