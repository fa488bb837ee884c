"""A user's own images: folders, tables, zip archives, torchvision's and Hugging Face's data sets."""
