//! What each image consists of.

/// One image.
#[derive(Debug, Clone)]
pub struct Recipe {
    pub name: &'static str,
    pub tags: &'static [&'static str],
    pub root: Root,
    pub cmd: &'static [&'static str],
    /// Ports that it serves, such as `80/tcp`.
    pub ports: &'static [&'static str],
    /// What `stop` sends.
    pub stop_signal: Option<&'static str>,
}

/// Where its root file system comes from.
#[derive(Debug, Clone)]
pub enum Root {
    /// Debian's static busybox with its links.
    Busybox,
    /// mmdebstrap's essential system with more packages.
    Debian {
        packages: &'static [&'static str],
        /// (path, mode, content)
        files: &'static [(&'static str, u32, &'static str)],
        /// Run in the new root at the end.
        script: &'static str,
    },
}

pub const RECIPES: [Recipe; 3] = [
    Recipe {
        name: "busybox",
        tags: &["busybox:latest"],
        root: Root::Busybox,
        cmd: &["sh"],
        ports: &[],
        stop_signal: None,
    },
    Recipe {
        name: "nginx",
        tags: &["nginx:latest"],
        root: Root::Debian {
            packages: &["nginx-light"],
            files: &[(
                "/etc/nginx/nginx.conf",
                0o644,
                include_str!("../../images/nginx/nginx.conf"),
            )],
            script: "rm -rf /etc/nginx/sites-enabled /etc/nginx/modules-enabled",
        },
        cmd: &["nginx", "-g", "daemon off;"],
        ports: &["80/tcp"],
        stop_signal: Some("SIGQUIT"),
    },
    Recipe {
        name: "wordpress",
        tags: &["wordpress:latest", "wordpress:6.1"],
        root: Root::Debian {
            packages: &[
                "nginx-light",
                "passwd",
                "php-fpm",
                "php-mysql",
                "mariadb-server-core",
                "mariadb-client",
                "wordpress",
                "wordpress-theme-twentytwentythree",
            ],
            files: &[
                ("/etc/nginx/nginx.conf", 0o644, include_str!("../../images/wordpress/nginx.conf")),
                (
                    "/etc/wordpress/php-fpm.conf",
                    0o644,
                    include_str!("../../images/wordpress/php-fpm.conf"),
                ),
                (
                    "/etc/wordpress/config-default.php",
                    0o644,
                    include_str!("../../images/wordpress/config.php"),
                ),
                (
                    "/etc/mysql/mariadb.conf.d/90-wordpress.cnf",
                    0o644,
                    include_str!("../../images/wordpress/mariadb.cnf"),
                ),
                (
                    "/usr/local/lib/wordpress-setup.php",
                    0o644,
                    include_str!("../../images/wordpress/setup.php"),
                ),
                (
                    "/usr/local/bin/wordpress-password",
                    0o755,
                    include_str!("../../images/wordpress/wordpress-password"),
                ),
                (
                    "/usr/local/bin/wordpress-start",
                    0o755,
                    include_str!("../../images/wordpress/wordpress-start"),
                ),
            ],
            // The server's package, not its core, would make the account and its directories.
            script: "useradd --system --user-group --home-dir /nonexistent --shell /usr/sbin/nologin mysql && \
                     install -d -o mysql -g mysql -m 700 /var/lib/mysql && \
                     wordpress-start --initialise",
        },
        cmd: &["wordpress-start"],
        ports: &["80/tcp"],
        stop_signal: Some("SIGTERM"),
    },
];
