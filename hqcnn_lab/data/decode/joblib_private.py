"""What is used of joblib that joblib does not promise to keep: loky, which it brings along, and which can be its own
package, too. `tests/data/decode/test_joblib_private.py` says what broke after an upgrade."""

from joblib.externals.loky import ProcessPoolExecutor

__all__ = ["ProcessPoolExecutor"]
