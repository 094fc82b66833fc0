"""Speed and memory of ccm, as ratios to plain programs measured in the same run: `python -m benchmarks`."""
