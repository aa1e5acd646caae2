"""Found by autodiscovery, as in any other app."""

from pubsubcache.analysers import builtin

builtin.register()
