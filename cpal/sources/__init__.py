"""How a data set comes to be: each module turns one kind of source into records (`cpal.dataset`)."""
