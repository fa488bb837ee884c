"""`advmix export`: variations of images, as a folder of pictures with a table."""
