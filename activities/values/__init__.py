"""Values that cross between processes: their declared types, their one way of being written, read and compared.

May import the border. Begin with `values.Values`, `declared.refusal`, `schema.Answer`, `converter.data_converter`.
"""
