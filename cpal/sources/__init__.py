"""Import of data sets: each module converts one kind of source into records (`cpal.data.dataset`)."""
