"""What runs on the operator's machine: build the image, boot it, put it on a box."""
