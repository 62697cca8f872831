"""HTTP, the search pipeline, the web page and the command line."""
