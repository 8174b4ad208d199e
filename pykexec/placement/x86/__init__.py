"""What an image on x86 needs to be started."""
