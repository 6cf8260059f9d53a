"""Scores under the paper's protocols, several methods beside each other."""
