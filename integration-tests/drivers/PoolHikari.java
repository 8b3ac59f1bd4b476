// HikariCP, which tries a session that was not used for half a second before it gives it out.

import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Properties;

public class PoolHikari {
    static int one(Connection session, String sql) throws SQLException {
        try (Statement statement = session.createStatement(); ResultSet rows = statement.executeQuery(sql)) {
            rows.next();
            return rows.getInt(1);
        }
    }

    /** The process of the session that the pool gives out. */
    static int backend(HikariDataSource pool) throws SQLException {
        try (Connection session = pool.getConnection()) {
            return one(session, "select pg_backend_pid()");
        }
    }

    public static void main(String[] arguments) throws Exception {
        String url = "jdbc:postgresql://localhost:" + System.getenv("MULTIDB_PORT")
            + "/app?sslmode=verify-full&sslrootcert=" + System.getenv("MULTIDB_CA");
        Properties login = new Properties();
        login.setProperty("user", System.getenv("MULTIDB_USER"));
        login.setProperty("password", System.getenv("MULTIDB_PASSWORD"));
        HikariConfig config = new HikariConfig();
        config.setJdbcUrl(url);
        config.setDataSourceProperties(login);
        config.setMaximumPoolSize(1);
        try (HikariDataSource pool = new HikariDataSource(config);
                Connection observer = DriverManager.getConnection(url, login)) {
            int first = backend(pool);
            while (one(observer, "select count(*) from pg_stat_activity where pid = " + first) > 0) {
                Thread.sleep(100);
            }
            if (backend(pool) == first) {
                throw new AssertionError("the session did not end");
            }
        }
    }
}
