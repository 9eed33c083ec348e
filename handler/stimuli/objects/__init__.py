"""Object sources, one file each, behind the protocol of `handler.stimuli.objects.source`."""
