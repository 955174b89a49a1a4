"""What runners for clusters have in common, on both sides: the base of an engine, and of what its workers do.

An engine subclasses `engine.RemoteEngine` and sends bundles; its workers say what came with one (`delivery.Delivery`)
and perform it with `bundle_worker.BundleWorker`. Nothing here knows an engine.
"""
