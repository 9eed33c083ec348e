"""Pre-training of Expression-Net on FER2013."""
