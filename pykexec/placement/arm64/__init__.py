"""What a load needs on arm64."""
