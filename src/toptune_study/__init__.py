"""Studies: many training processes over many data sets, one record each, and what they say.

`datasets` knows where images come from, `plan` what is to be run, `cells` runs one training
process, `runner` all of them, and `analysis` and `report` compare the records.
"""
