"""Image stores (folder or LMDB), their packing and verification, and the data set built on them."""
