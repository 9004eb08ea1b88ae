import { MYSQLD } from '../support/mysql.js'
import { mysqlContract } from './mysql-contract.js'

mysqlContract('mysql on MariaDB', 'mariadb')
if (MYSQLD !== undefined) mysqlContract('mysql on MySQL', 'mysql')
