"""The page of the server: its files in `static`, and the reports that it lists and opens.

It may import `http.responses` and `openai.errors`. The page talks to the server by its addresses alone. A script
or a style of the page belongs into `static`; every text of it is in `static/words.js`, in each language.
"""
