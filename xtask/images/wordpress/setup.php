<?php
// Makes WordPress's tables and its one account. Nobody knows that account's password until
// wordpress-password sets one.
if (PHP_SAPI !== 'cli') {
    exit(1);
}
define('WP_INSTALLING', true);
$_SERVER['HTTP_HOST'] = 'localhost';

// There is no mail here.
function wp_new_blog_notification($title, $url, $user, $password)
{
}

require '/usr/share/wordpress/wp-load.php';
require ABSPATH . 'wp-admin/includes/upgrade.php';

wp_install('Caisson', 'admin', 'admin@example.org', false, '', bin2hex(random_bytes(32)));

// The secrets of one site must not be those of every copy of this image: each makes its own when asked.
foreach (['auth', 'secure_auth', 'logged_in', 'nonce'] as $name) {
    delete_site_option($name . '_key');
    delete_site_option($name . '_salt');
}
if (!is_blog_installed()) {
    fwrite(STDERR, "WordPress's tables were not made\n");
    exit(1);
}
