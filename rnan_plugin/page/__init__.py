"""The page of `rnan serve`: files in from a browser or curl on this machine, what `rnan restore` makes of them out."""
