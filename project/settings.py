"""Settings of the project. Environment variables can change all of them (see docs/settings.md)."""

from pathlib import Path

import environ

from project.private import make_private
from project.secret_key import local_secret_key
from pubsubcache import conf
from pubsubcache.keys import channel_layer_keys

BASE_DIR = Path(__file__).resolve().parent.parent
LOOPBACK_HOSTS = ["localhost", "127.0.0.1", "[::1]"]

env = environ.Env()

# Folder of the default database, the secret key and the sample service.
DATA_DIR = Path(env.str("DATA_DIR", default=str(BASE_DIR / "var")))

DEBUG = env.bool("DEBUG", default=False)
DEFAULT_EXCEPTION_REPORTER_FILTER = "project.reports.UrlFilter"
SECRET_KEY = env.str("SECRET_KEY", default="") or local_secret_key(DATA_DIR)
SECRET_KEY_FALLBACKS = env.list("SECRET_KEY_FALLBACKS", default=[])
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=LOOPBACK_HOSTS)
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "project.apps.SiteCacheConfig",  # pubsubcache, which here migrates the whole site
]

MIDDLEWARE = [
    "project.headers.ContentSecurityPolicy",
    "django.middleware.security.SecurityMiddleware",
    "servestatic.middleware.ServeStaticMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "project.urls"
CSRF_FAILURE_VIEW = "project.errors.csrf_failure"
ASGI_APPLICATION = "project.asgi.application"
WSGI_APPLICATION = "project.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {"default": env.db("DATABASE_URL", default=f"sqlite:///{DATA_DIR / 'db.sqlite3'}")}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # With DEFERRED, a transaction that reads and then writes fails at once if another one wrote in between, whatever
    # the timeout.
    DATABASES["default"].setdefault("OPTIONS", {}).update(
        transaction_mode="IMMEDIATE",
        timeout=30,
        init_command="PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;",
    )
    # Asynchronous code returns its connection after each operation, and opening a new one takes longer than a read.
    DATABASES["default"].setdefault("CONN_MAX_AGE", None)
elif not DATABASES["default"].get("CONN_MAX_AGE"):  # DATABASE_URL may set it instead
    DATABASES["default"].setdefault("CONN_HEALTH_CHECKS", True)
    # A pool for the same reason. Timeouts are short, because callers retry while the database is down.
    DATABASES["default"].setdefault("OPTIONS", {}).setdefault(
        "pool", {"min_size": 1, "max_size": 20, "timeout": 5, "reconnect_timeout": 5}
    )

SQLITE = Path(DATABASES["default"]["NAME"]) if DATABASES["default"]["ENGINE"].endswith("sqlite3") else None
make_private(
    DATA_DIR, exclusive=DATA_DIR == BASE_DIR / "var", database=SQLITE if SQLITE and SQLITE.parent == DATA_DIR else None
)

REDIS_URL = env.str("REDIS_URL", default="")
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        # The layer blocks for 5 seconds to wait for a message, which is also the default socket timeout of the client.
        "CONFIG": {
            "hosts": [{"address": REDIS_URL, "socket_timeout": 30}],
            "capacity": 1000,
            # Encryption prevents others with access to Redis from reading items or forging answers.
            "symmetric_encryption_keys": channel_layer_keys(SECRET_KEY, SECRET_KEY_FALLBACKS),
        },
    }
    if REDIS_URL
    else {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": {"capacity": 1000}}
}

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

# Browsers choose among the languages. The default is for those that want another one.
LANGUAGE_CODE = env.str("LANGUAGE_CODE", default="en-us")
LANGUAGES = [("en", "English"), ("fr", "Français")]
if LANGUAGE_CODE not in ("en-us", *dict(LANGUAGES)):
    LANGUAGES.append((LANGUAGE_CODE, LANGUAGE_CODE))
LOCALE_PATHS = [BASE_DIR / "project" / "locale"]
TIME_ZONE = env.str("TIME_ZONE", default="UTC")
USE_I18N = True
USE_TZ = True

STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "project" / "static"]
# Static files are served straight from the packages.
SERVESTATIC_USE_FINDERS = True
SERVESTATIC_USE_MANIFEST = False
SERVESTATIC_AUTOREFRESH = False

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# A site that only answers on loopback uses plain HTTP; all others are expected to be behind TLS.
HTTPS = env.bool("HTTPS", default=not DEBUG and not set(ALLOWED_HOSTS) <= set(LOOPBACK_HOSTS))
if HTTPS:
    SECURE_SSL_REDIRECT = True
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_HSTS_SECONDS = env.int("SECURE_HSTS_SECONDS", default=31536000)
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    # The application cleans its own records; this filter cleans those of other packages, which may quote remote text.
    "filters": {"clean": {"()": "pubsubcache.utils.cleaning.CleanRecords"}},
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["clean"]}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    "loggers": {
        "pubsubcache": {"level": env.str("LOG_LEVEL", default="INFO")},
        "slixmpp": {"level": "CRITICAL"},  # sessions log its errors themselves
    },
}

PUBSUBCACHE_AUTO_MIGRATE = True
# Every PUBSUBCACHE_* setting of pubsubcache/conf.py, by the same name in the environment.
globals().update(conf.from_environment(env))
