"""OpenAI's protocol without HTTP: requests read into values, values written as responses, errors in their form.

It may import methods, settings and plain values, and from `pool` the values only. Another dialect of the protocol,
or a further field of it, belongs here.
"""
