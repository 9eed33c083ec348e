"""The commands of the program `vea`, one file each."""
