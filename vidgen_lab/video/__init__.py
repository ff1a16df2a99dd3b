"""A clip and its file: `clip.Clip`, `reader.read_clip`, `writer.write_clip`, `show.show_video`.

Nothing heavy is imported here; import from the modules.
"""
