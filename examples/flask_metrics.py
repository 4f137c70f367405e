"""Metrics of the application itself, counted with prometheus_client and joined by the server over all its workers.

wsgicluster --chdir examples flask_metrics:app -w 4 --admin 9100 --app-metrics
"""

from flask import Flask
from prometheus_client import Counter, Gauge, Histogram

app = Flask(__name__)

ORDERS = Counter("shop_orders", "Orders, by what was ordered.", ["article"])
PRICES = Histogram("shop_order_price_euros", "Prices of orders.", buckets=(1.0, 10.0, 100.0))
OPEN = Gauge("shop_orders_open", "Orders that are being worked on.", multiprocess_mode="livesum")

ARTICLES = {"tea": 3.5, "kettle": 42.0}


@app.post("/order/<article>")
@OPEN.track_inprogress()
def order(article: str) -> str | tuple[str, int]:
    """Take an order; a name that a client invents never becomes the value of a label."""
    if article not in ARTICLES:
        return "there is no such article\n", 404
    ORDERS.labels(article).inc()
    PRICES.observe(ARTICLES[article])
    return f"{article} ordered\n"
