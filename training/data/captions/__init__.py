"""What `grape data from-captions` is made of; training/data/from_captions.py puts it together."""
