"""The kernel's own plugin: telescope-neutral stages and importers, registered through the same door as anyone's."""
