"""SmoothGrad: stability and truth share against noise and number of copies."""
