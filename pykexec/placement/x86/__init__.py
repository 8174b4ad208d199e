"""What an image on x86 needs around it."""
