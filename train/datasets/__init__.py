"""Data sets, one file each, all yielding the same table: path, label, split."""
