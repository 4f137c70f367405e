"""A small Flask application: a page, a JSON interface and a form.

wsgicluster --chdir examples flask_app:app -w 4
"""

import os

from flask import Flask, abort, jsonify, request
from flask.typing import ResponseReturnValue
from markupsafe import escape

app = Flask(__name__)


@app.get("/")
def index() -> str:
    """The page; it names the worker process that made it."""
    return f"""<!doctype html>
<title>Flask on wsgicluster</title>
<h1>It works</h1>
<p>Process {os.getpid()} answered, over {escape(request.scheme)}, to {escape(request.remote_addr or "")}.</p>
<form action="/greet" method="post"><input name="name" value="world"><button>Greet</button></form>
"""


@app.post("/greet")
def greet() -> str:
    """Respond to the form."""
    return f"Hello, {escape(request.form.get('name', 'stranger'))}!"


@app.get("/api/square/<int:number>")
def square(number: int) -> ResponseReturnValue:
    """A JSON response, or 404 for a number that is too large."""
    if number > 1_000_000:
        abort(404)
    return jsonify(number=number, square=number * number)


@app.get("/fail")
def fail() -> str:
    """An error in the application: 500 for the client, a traceback in the error log."""
    raise RuntimeError("this page always fails")
