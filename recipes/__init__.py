"""Recipes: the programs and configs that make and train the models."""
