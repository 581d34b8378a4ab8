"""Where bytes come from and where they stay: fetching, unpacking, caching, and the folder of a run."""
