"""When things run: one file a job, each `python -m jobs.NAME`, all behind `footfall NAME`."""
