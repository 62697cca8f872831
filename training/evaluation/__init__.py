"""`grape eval`: systems compared on one set of queries, with statistics."""
