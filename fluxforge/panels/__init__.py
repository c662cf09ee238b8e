"""Live views for notebooks over plain state objects: JupyterLab, VS Code, Colab and marimo.

Nothing here is fetched when it runs. The candle chart is drawn by TradingView's Lightweight
Charts (Apache-2.0), which comes along in ``static/``.
"""
