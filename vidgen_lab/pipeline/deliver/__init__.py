"""What leaves the pipeline: clips cut and written, exports, and the record of what was done."""
