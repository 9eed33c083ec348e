"""The output folder: parquet parts, the ledger, compaction, the Delta Lake table."""
