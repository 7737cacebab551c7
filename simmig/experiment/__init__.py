"""The experiment room: scenarios and models in, one run or many, results, tables and plots out."""
