"""The variable that names the folder of data files; pools hand its value on to their workers.

Nothing heavy may be imported here: the command line and a Ray actor read it before torch is loaded.
"""

DATA_DIR_VARIABLE = "EVOSEARCH_DATA_DIR"
