"""Detection of objects in detector images: Faster R-CNN with a feature pyramid, from torchvision."""
