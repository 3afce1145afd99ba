<?php
// WordPress's settings for one container. Shipped as /etc/wordpress/config-default.php.
define('DB_NAME', 'wordpress');
define('DB_USER', 'www-data');
// The database knows its clients by their user ids: the socket is the password.
define('DB_PASSWORD', '');
define('DB_HOST', 'localhost:/run/mysqld/mysqld.sock');
define('DB_CHARSET', 'utf8mb4');

// The site is wherever it was asked for: a published port is not known inside the container.
$site = preg_replace('/[^a-zA-Z0-9.:\[\]-]/', '', $_SERVER['HTTP_HOST'] ?? 'localhost');
define('WP_HOME', 'http://' . $site);
define('WP_SITEURL', 'http://' . $site);

// There may be no way out of this host, and nobody answers inside at the published port.
define('WP_HTTP_BLOCK_EXTERNAL', true);
define('DISABLE_WP_CRON', true);
define('FS_METHOD', 'direct');
