"""vSphere targets."""
