"""Archives: the files, how they are read and verified, and how networks are built from them."""
