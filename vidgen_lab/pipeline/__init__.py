"""From a folder of videos to a training set (chapter 2): `prepare.prepare` runs the whole way.

Nothing heavy is imported here; import from the modules.
"""
