"""Degradations, image stores (folder or LMDB) and the data set built on them."""
