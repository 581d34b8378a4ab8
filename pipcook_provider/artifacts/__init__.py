"""The artifact processors that come with this package."""
