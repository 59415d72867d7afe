"""What every layer uses: errors, progress, files, resources of the machine; it imports no other layer."""
