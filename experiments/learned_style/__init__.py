"""What a learned style knows that statistics of an image do not."""
